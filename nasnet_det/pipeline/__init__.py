"""The chain of stages: search, classifier, backbone, detector, evaluation, reports."""
