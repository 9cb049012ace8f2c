"""What a driver keeps in the store: its signs of life, and the records of failed attempts."""
