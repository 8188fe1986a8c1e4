"""Finite runs of an app (`penstock eval`): files in, files out, in bounded memory."""
