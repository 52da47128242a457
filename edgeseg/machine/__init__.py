"""What is known about this machine: its board, heat, memory and cameras."""
