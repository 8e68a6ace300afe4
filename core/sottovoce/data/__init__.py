"""Data files of samples: JSON Lines, Kaldi directories, languages."""
