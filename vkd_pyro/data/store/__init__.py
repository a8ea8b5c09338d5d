"""A prepared store: a corpus as training reads it, written once by `vkd prepare`.

store/
  plan.json             what it is made from: written first, and never changed
  00000.images.arrow    the images of 256 studies, resized, uint8
  00000.features.arrow  what a frozen image encoder makes of them, and of augmented versions, float16
  00000.reports.arrow   what the report encoder prepared of their reports, ragged: no padding is stored
  00000.observed.arrow  what the report likelihood prepared of them, likewise
  studies.arrow         ids, splits, views, labels, sex and age, as the corpus gives them: any label policy fits
  bad_images.csv        images that could not be read, if some were skipped
  store.json            counts, and the hash of each file: written last, so where it is the store is whole

Arrow files (IPC), memory-mapped. Each is renamed into place when it is complete, so a killed writer loses one shard at
most, goes on where it was, and never disturbs a reader. Its last 64 bytes, which Arrow is not shown, are the SHA-256 of
those before, in hexadecimal. To open a store is to check its small files whole, and of each shard that it is of this
store; the content of a shard is checked when something of it is first read, in each process, or by `vkd doctor`.
"""

from vkd_pyro.data.store.reading import Store as Store
from vkd_pyro.data.store.reading import StoredReports as StoredReports
from vkd_pyro.data.store.writing import prepare as prepare
