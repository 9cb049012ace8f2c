"""The store in a bucket: an S3 server, and what its errors mean."""
