"""One file a data set; its name is the name to ask for."""
