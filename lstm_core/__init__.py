"""One replica: a Keras model on fixed batch slots, its steps and its training. No Ray, no shards, no Parquet."""
