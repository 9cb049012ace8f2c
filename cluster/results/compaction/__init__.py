"""This room keeps what many small commits hold in few large files, and reads rows from them."""
