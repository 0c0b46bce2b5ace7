"""What runs a network: the protocol, and the engines that boards have."""
