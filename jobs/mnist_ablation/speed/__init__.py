"""This room says how fast a machine trains: by a short look, or by measuring every part."""
