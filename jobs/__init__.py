"""What researchers run and copy: one declaration a file."""
