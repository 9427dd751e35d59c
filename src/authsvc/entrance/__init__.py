"""The one way in, for every transport."""
