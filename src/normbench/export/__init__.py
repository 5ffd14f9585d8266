"""A trained run as an ordinary PyTorch module of one network: in memory, or as files that need only torch.

restored  a record of the store → `TrainedNetwork`
ordinary  our stacked layers with one lane → torch's own layers
parts     what torch has no layer for; copied into the exported files
source    a module → the Python text that builds it
files     weights, configuration and builder in a folder; checked by reading them back
onnx_file the same as ONNX
"""
