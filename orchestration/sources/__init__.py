"""Where raw events come from: landing files, the sample world, real public data."""
