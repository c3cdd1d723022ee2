"""A network as the partitioner sees it: nodes, tensors, shapes and work, read from an ONNX file."""
