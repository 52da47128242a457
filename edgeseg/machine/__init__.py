"""The machine: board profiles, temperature and throttling, memory, devices and cameras."""
