"""The Ray side: connection, nodes, actors, tasks."""
