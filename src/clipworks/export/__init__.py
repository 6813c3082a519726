"""Export: weights of a tower enter; ONNX files leave, in f32 and int8."""
