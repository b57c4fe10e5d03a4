"""Labellers: whoever answers queries."""
