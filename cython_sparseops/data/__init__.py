"""Readers of what others write: extreme classification, Annif's corpora, taxonomies."""

from cython_sparseops.data._corpora import AnnifCorpus, XmcData, read_annif, read_xmc
from cython_sparseops.data._taxonomies import read_skos, read_taxonomy

__all__ = ["AnnifCorpus", "XmcData", "read_annif", "read_skos", "read_taxonomy", "read_xmc"]

for _name in __all__:
    globals()[_name].__module__ = __name__
del _name
