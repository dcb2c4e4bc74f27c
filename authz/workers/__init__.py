"""`authz serve --workers N`: many processes behind one set of ports, each replaced when it ends."""
