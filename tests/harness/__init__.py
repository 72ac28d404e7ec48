"""What tests run the code under: replicas in process, real nodes, the truth."""
