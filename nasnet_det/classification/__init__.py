"""Image classification: a genotype becomes a trained classifier, the detector's backbone."""
