"""Labels: the store in which a trainer asks and labellers answer, and a person's desk at it."""
