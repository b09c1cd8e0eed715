"""The metrics once more, from the words of their pages: rows in, rows out, in exact decimals or with mpmath.

Nothing of the package, of Polars or of NumPy is used, so that a mistake there is not repeated here. One module for each
page of docs/metrics/, with functions of the names that its examples call.
"""
