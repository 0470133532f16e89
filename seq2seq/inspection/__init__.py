"""Looking inside a trained model: gates, gradients through time, alignments, units, pictures."""
