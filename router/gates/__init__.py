"""Gates: what a version must show before it may take production traffic. Pure: facts and asks in, findings out."""
