"""Look at the built pages: does every link lead somewhere, is nothing loaded from the network?

python docs/check_site.py build/docs/html
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"img": "src", "script": "src", "link": "href", "source": "src", "iframe": "src"}
SAID = {"canonical", "search", "license", "author"}  # <link>s that load nothing


class Page(HTMLParser):
    """The places that a page has, what it links to and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.places, self.links, self.loads = set(), [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.places |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag in LOADED and attributes.get(LOADED[tag]) and attributes.get("rel") not in SAID:
            self.loads.append(attributes[LOADED[tag]])


def problems(site):
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))
             if "_static" not in path.relative_to(site).parts}  # fmt: skip
    for path, page in pages.items():
        for target in page.links + page.loads:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                if target in page.loads and parts.scheme != "data":
                    yield path, f"loads {target} from the network"
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not file.exists():
                yield path, f"links to {target}, which is not there"
            elif parts.fragment and file in pages:
                if unquote(parts.fragment) not in pages[file].places:
                    yield path, f"links to {target}: the page has no such place"
    if not pages:
        yield site, "has no pages"


def main():
    site = Path(sys.argv[1])
    found = list(problems(site))
    for path, what in found:
        print(f"{path}: {what}", file=sys.stderr)
    if found:
        sys.exit(f"{len(found)} broken")


if __name__ == "__main__":
    main()
