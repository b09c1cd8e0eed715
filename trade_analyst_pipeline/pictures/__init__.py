"""Pictures of metrics: rows of a table in, a small SVG out. Nothing is read, written or looked up here.

Any report can call them: `smile`, `term_structure`, `volatility_history`, `put_call_history`. Each text is drawn as it
stands in a page or as an image, needs no script, font or file besides, is at most 8 KiB for as many sessions as are
drawn unless told, and always the same for the same rows. Which rows are shown where is for the caller; the tiny line
beside an asset is `sparkline`.
"""
