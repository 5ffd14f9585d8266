"""The files that `normbench new norm` and `normbench new model` write."""
