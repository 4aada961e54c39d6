"""The guide: a site of the pages in docs/, the declarations and the API's description.

::

    python -m tests.guide                    # build it, strictly, into .local/guide/site
    python -m tests.guide --drawings         # write docs/images/sagas again, of the declarations
    python -m tests.guide --drawings --check # write nothing; fail if one is out of date

`docs/guide.toml` has the order of the pages. What a page of the site is made of is copied to a
folder first: links that lead out of docs/ are led to where the site has what they name, and
diagrams are drawn. Nothing is loaded from elsewhere, neither to build it nor to read it.
"""
