"""Labels: the store where trainer and labellers meet."""
