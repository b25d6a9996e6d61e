"""Where the cluster agrees: ZooKeeper's contract, its embedded stand-in, and Kafka's znodes."""
