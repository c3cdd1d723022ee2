"""Cut a network in two, and prove that the halves together answer like the whole."""
