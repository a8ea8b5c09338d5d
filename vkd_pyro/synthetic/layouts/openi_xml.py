"""A report of Open-I as XML, with the elements of the original; what would name persons and servers is made up."""

from xml.sax.saxutils import escape

from vkd_pyro.synthetic.layouts.openi_records import ListedImage, Record

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation>
   <meta type="rr"/>
   <uId id="CXR{uid}"/>
   <pmcId id="{uid}"/>
   <docSource>CXR</docSource>
   <IUXRId id="{uid}"/>
   <licenseType>synthetic</licenseType>
   <licenseURL/>
   <ccLicense/>
   <articleURL/>
   <articleDate>2013-08-01</articleDate>
   <articleType>XR</articleType>
   <publisher>None</publisher>
   <title>Synthetic chest X-rays</title>
   <note>Drawn, not taken.</note>
   <specialty>pulmonary diseases</specialty>
   <subset>CXR</subset>
   <MedlineCitation Owner="None" Status="synthetic">

      <Article PubModel="Electronic">

         <ArticleTitle>Synthetic chest X-rays</ArticleTitle>

         <Abstract>
{sections}
         </Abstract>

         <Language>eng</Language>

      </Article>

   </MedlineCitation>
   <MeSH>
{terms}
   </MeSH>{images}
</eCitation>"""

IMAGE = """
   <parentImage id="{image_id}">

      <figureId>F{number}</figureId>

      <caption>{caption}</caption>

      <panel type="single">

         <url>/storage/radiology/extract/{image_id}.jpg</url>

         <imgModality>7</imgModality>

      </panel>

   </parentImage>"""


def openi_xml(record: Record) -> str:
    """The XML file of one report."""
    terms = [f"\n      <major>{escape(term)}</major>\n" for term in record.mesh]
    terms += [f"\n      <automatic>{escape(term.lower())}</automatic>\n" for term in _recognised(record)]
    return REPORT.format(
        uid=record.uid,
        sections="".join(_section(label, text) for label, text in record.sections.items()),
        terms="".join(terms),
        images="".join(_image(image, record.caption, n) for n, image in enumerate(record.images, start=1)),
    )


def _section(label: str, text: str) -> str:
    start = f'\n            <AbstractText Label="{label}"'
    return f"{start}>{escape(text)}</AbstractText>\n" if text else f"{start}/>\n"


def _recognised(record: Record) -> list[str]:
    """The terms that a program would find: the headings, once each."""
    return [term for term in dict.fromkeys(record.headings) if term not in ("normal", "No Indexing")]


def _image(image: ListedImage, caption: str, number: int) -> str:
    return IMAGE.format(image_id=image.image_id, number=number, caption=caption)
