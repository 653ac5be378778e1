"""Networks that read stimulus labels from images and took no part in making them."""

from nwb_migvis.evidence.readers.protocol import Examples, Reader, fit_readers, reader_scores

__all__ = ["Examples", "Reader", "fit_readers", "reader_scores"]
