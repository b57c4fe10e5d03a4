"""The learned reward: an ensemble of small networks and its fit to labels."""
