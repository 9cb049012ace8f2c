"""The report page: one HTML file with the numbers of a sweep and the queries that give them."""
