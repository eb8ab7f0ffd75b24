"""What users need to test their own adapters and stores, and what our own tests use."""
