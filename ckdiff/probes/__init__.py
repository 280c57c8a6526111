"""What is alive: restoration probes on the activations of two live models."""
