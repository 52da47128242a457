"""What stands inside a flatbuffer: operators, sizes and whether a target takes them."""
