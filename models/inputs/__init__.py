"""From text and images to tensors: encoding, packing, loading."""
