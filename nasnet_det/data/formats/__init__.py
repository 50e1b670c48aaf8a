"""Annotations in other formats than COCO's, read as the content of a COCO JSON and written from it.

Each module owns a format: it recognises, reads and writes it. The readers are small and our own,
since none of the known packages keeps what people's files hold: they drop VOC's ``difficult``, or
take VOC's pixels, which count from 1, for edges that count from 0, or decode every picture, or read
XML from anywhere with entities. XML goes through defusedxml.
"""
