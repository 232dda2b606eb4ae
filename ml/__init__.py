"""Frames in, frames out: estimators and graph kernels, free of any warehouse."""
