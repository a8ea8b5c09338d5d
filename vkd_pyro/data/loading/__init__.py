"""How studies are fed: batches and their order, workers, memory."""

from vkd_pyro.data.loading.settings import Loader as Loader
from vkd_pyro.data.loading.settings import Loading as Loading
