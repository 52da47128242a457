"""Labels as polygons and masks with a class name, and the files in which labelling tools keep them."""
