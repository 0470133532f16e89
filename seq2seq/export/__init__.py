"""A trained model for other runtimes: TensorFlow without this package, onnxruntime, LiteRT.

Nothing is imported here, so that `seq2seq.export.runner`, which needs no TensorFlow, is there at once.
"""
