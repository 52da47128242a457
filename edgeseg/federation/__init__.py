"""Federated training: sites keep their images, and weights are averaged."""
