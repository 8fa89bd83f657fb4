// Operators eqff::* with autograd: kernels generated for one model each are loaded by name and called from here.
//
//   convolve(x, sh, weight, rows, senders, receivers, kernel) -> out  first and second derivatives
//   convolve_spline(x, sh, knot, table, senders, receivers, kernel)   first derivatives by x, sh and knot
//
//   linear(x, weight, species, blocks, width_in, width_out, joined)   every derivative by x and weight
//
// Every derivative is an operator too and is called through the dispatcher, so that tracing sees it.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <dlfcn.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cstring>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernel.h"

namespace {

using at::Tensor;
using c10::string_view;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Gradients = std::tuple<Tensor, Tensor, Tensor>;
using SecondGradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

std::unordered_map<std::string, const Kernel *> kernels;
std::mutex lock;

void load_kernel(string_view name, string_view path) {
  std::lock_guard<std::mutex> guard(lock);
  if (kernels.count(std::string(name))) return;
  void *library = dlopen(std::string(path).c_str(), RTLD_NOW | RTLD_LOCAL);
  TORCH_CHECK(library, "cannot load ", path, ": ", dlerror());
  auto entry = reinterpret_cast<const Kernel *(*)()>(dlsym(library, "eqff_kernel"));
  TORCH_CHECK(entry, path, " is no eqff kernel");
  kernels[std::string(name)] = entry();
}

const Kernel &find(string_view name) {
  std::lock_guard<std::mutex> guard(lock);
  auto found = kernels.find(std::string(name));
  TORCH_CHECK(found != kernels.end(), "kernel ", name, " is not loaded");
  return *found->second;
}

template <class S>
const Precision<S> &precision(const Kernel &kernel);
template <>
const Precision<float> &precision<float>(const Kernel &kernel) { return kernel.single; }
template <>
const Precision<double> &precision<double>(const Kernel &kernel) { return kernel.twofold; }

template <class F>
void with_type(const Tensor &x, F f) {
  if (x.scalar_type() == at::kFloat) return f(float{});
  TORCH_CHECK(x.scalar_type() == at::kDouble, "eqff::convolve takes float32 or float64, not ", x.scalar_type());
  f(double{});
}

// Checked inputs of one call: contiguous tensors of one dtype, and where the edges of each receiver start.
struct Call {
  const Kernel &kernel;
  bool spline;
  Tensor x, sh, radial, senders, table, rows;  // rows: undefined if every edge has weights of its own
  int64_t n_atoms, n_edges;
  std::vector<int64_t> row_pointers;

  Call(const Tensor &x_, const Tensor &sh_, const Tensor &radial_, const c10::optional<Tensor> &table_,
       const c10::optional<Tensor> &rows_, const Tensor &senders_, const Tensor &receivers_, string_view name)
      : kernel(find(name)), spline(table_.has_value()), x(x_.contiguous()), sh(sh_.contiguous()),
        radial(radial_.contiguous()), senders(senders_.contiguous()), n_atoms(x.size(0)), n_edges(senders.size(0)) {
    if (spline) table = table_->contiguous();
    const int64_t n_radial = spline ? 2 : kernel.n_weights;
    TORCH_CHECK(x.dim() == 2 && x.size(1) == kernel.width_in, "x: expected [n_atoms, ", kernel.width_in, "], got ",
                x.sizes());
    TORCH_CHECK(sh.dim() == 2 && sh.size(0) == n_edges && sh.size(1) == kernel.n_sh, "sh: expected [", n_edges, ", ",
                kernel.n_sh, "], got ", sh.sizes());
    TORCH_CHECK(radial.dim() == 2 && (rows_ || radial.size(0) == n_edges) && radial.size(1) == n_radial,
                "radial: expected [", n_edges, ", ", n_radial, "], got ", radial.sizes());
    TORCH_CHECK(sh.scalar_type() == x.scalar_type() && radial.scalar_type() == x.scalar_type() &&
                    (!spline || table.scalar_type() == x.scalar_type()),
                "x, sh, radial functions: expected one dtype");
    TORCH_CHECK(senders.dim() == 1 && senders.scalar_type() == at::kLong && receivers_.scalar_type() == at::kLong &&
                    receivers_.dim() == 1 && receivers_.size(0) == n_edges,
                "senders, receivers: expected int64 [", n_edges, "]");
    count(receivers_.contiguous());
    if (spline) check_knots();
    if (rows_) check_rows(rows_->contiguous());
  }

  void check_rows(const Tensor &rows_) {
    rows = rows_;
    TORCH_CHECK(rows.scalar_type() == at::kLong && rows.dim() == 1 && rows.size(0) == n_edges, "rows: expected int64 [",
                n_edges, "]");
    bool sound = true;
    for (int64_t e = 0; e < n_edges; e++) {
      const int64_t row = rows.data_ptr<int64_t>()[e];
      sound &= row >= 0 && row < radial.size(0);
    }
    TORCH_CHECK(sound, "rows: expected indices of ", radial.size(0), " rows of weights");
  }
  const int64_t *row_of_edge() const { return rows.defined() ? rows.data_ptr<int64_t>() : nullptr; }

  Tensor checked(const Tensor &grad_out) const {
    TORCH_CHECK(grad_out.numel() == n_atoms * kernel.width_out && grad_out.scalar_type() == x.scalar_type(),
                "grad_out: expected ", n_atoms * kernel.width_out, " numbers, got ", grad_out.sizes());
    return grad_out.contiguous();
  }

  void count(const Tensor &receivers) {
    row_pointers.assign(n_atoms + 1, 0);
    const int64_t *to = receivers.data_ptr<int64_t>(), *from = senders.data_ptr<int64_t>();
    int64_t previous = 0;
    bool sound = true;
    for (int64_t e = 0; e < n_edges; e++) {
      sound &= to[e] >= previous && to[e] < n_atoms && from[e] >= 0 && from[e] < n_atoms;
      if (!sound) break;
      previous = to[e];
      row_pointers[previous + 1]++;
    }
    TORCH_CHECK(sound, "senders, receivers: expected indices of ", n_atoms, " atoms, sorted by receiver");
    for (int64_t i = 0; i < n_atoms; i++) row_pointers[i + 1] += row_pointers[i];
  }

  void check_knots() {
    TORCH_CHECK(table.dim() == 3 && table.size(1) == 3 && table.size(2) == kernel.n_weights, "table: expected ",
                "[n_knots, 3, ", kernel.n_weights, "], got ", table.sizes());
    with_type(radial, [&](auto type) {
      using S = decltype(type);
      const S *knot = radial.data_ptr<S>(), last = S(table.size(0) - 2);  // an interval needs two knots
      bool sound = true;
      for (int64_t e = 0; e < n_edges; e++) sound &= knot[2 * e] <= last;  // false for NaN
      TORCH_CHECK(sound, "knot: expected indices up to ", table.size(0) - 2);
    });
  }

  // Ranges of receivers with about equal numbers of edges, one per thread if there is enough to do.
  std::vector<int64_t> tasks() const {
    constexpr int64_t worth_a_thread = 200'000;  // numbers written or read; some 50 microseconds
    const int64_t work = n_edges * (kernel.n_weights + kernel.width_in);
    const int64_t n = at::in_parallel_region() ? 1 : std::min<int64_t>(at::get_num_threads(), 1 + work / worth_a_thread);
    std::vector<int64_t> bounds{0};
    for (int64_t k = 1; k < n; k++) {
      auto bound = std::lower_bound(row_pointers.begin(), row_pointers.end() - 1, n_edges * k / n);
      bounds.push_back(std::max<int64_t>(bounds.back(), bound - row_pointers.begin()));
    }
    bounds.push_back(n_atoms);
    return bounds;
  }

  template <class F>
  void parallel(F f) const {
    const std::vector<int64_t> bounds = tasks();
    if (bounds.size() == 2) return f(0, 0, n_atoms);
    at::parallel_for(0, bounds.size() - 1, 1, [&](int64_t first, int64_t last) {
      for (int64_t k = first; k < last; k++) f(k, bounds[k], bounds[k + 1]);
    });
  }

  // Edges of different threads may share a sender and a row of weights: each thread sums into buffers of its own.
  template <class S, class F>
  std::pair<Tensor, Tensor> summed(F f) const {
    const int64_t n = tasks().size() - 1;
    const Tensor by_sender = at::zeros({n, n_atoms, kernel.width_in}, x.options());
    const Tensor by_edge = rows.defined() ? at::zeros({n, radial.size(0), radial.size(1)}, x.options())
                                          : at::empty({1, n_edges, radial.size(1)}, x.options());
    S *x_sums = by_sender.data_ptr<S>(), *radial_sums = by_edge.data_ptr<S>();
    const int64_t x_size = by_sender[0].numel(), radial_size = rows.defined() ? by_edge[0].numel() : 0;
    parallel([&](int64_t k, int64_t begin, int64_t end) {
      f(x_sums + k * x_size, radial_sums + k * radial_size, begin, end);
    });
    const auto sum = [](const Tensor &parts) { return parts.size(0) == 1 ? parts[0] : parts.sum(0); };
    return {sum(by_sender), sum(by_edge)};
  }
};

Tensor run_forward(const Call &call) {
  Tensor out = at::empty({call.n_atoms * call.kernel.width_out}, call.x.options());
  with_type(call.x, [&](auto type) {
    using S = decltype(type);
    const auto &of = precision<S>(call.kernel);
    const auto function = call.spline ? of.spline.forward : of.weights.forward;
    const S *x = call.x.data_ptr<S>(), *sh = call.sh.data_ptr<S>(), *radial = call.radial.data_ptr<S>();
    const S *table = call.spline ? call.table.data_ptr<S>() : nullptr;
    S *result = out.data_ptr<S>();
    call.parallel([&](int64_t, int64_t begin, int64_t end) {
      function(begin, end, call.n_atoms, call.row_pointers.data(), call.senders.data_ptr<int64_t>(),
               call.row_of_edge(), x, sh, radial, table, result);
    });
  });
  return out;
}

// Like x, or without any numbers where a gradient is not wanted.
Tensor contiguous_like(const Tensor &x, bool wanted = true) {
  return wanted ? at::empty_like(x, c10::MemoryFormat::Contiguous) : at::empty({0}, x.options());
}
template <class S>
S *address(const Tensor &x) { return x.numel() == 0 ? nullptr : x.data_ptr<S>(); }

Gradients run_backward(const Call &call, const Tensor &grad_out_, bool harmonics) {
  const Tensor grad_out = call.checked(grad_out_);
  Tensor grad_sh = contiguous_like(call.sh, harmonics);
  std::pair<Tensor, Tensor> sums;
  with_type(call.x, [&](auto type) {
    using S = decltype(type);
    const auto &of = precision<S>(call.kernel);
    const auto function = call.spline ? of.spline.backward : of.weights.backward;
    const S *table = call.spline ? call.table.data_ptr<S>() : nullptr;
    sums = call.summed<S>([&](S *grad_x, S *grad_radial, int64_t begin, int64_t end) {
      function(begin, end, call.n_atoms, call.row_pointers.data(), call.senders.data_ptr<int64_t>(),
               call.row_of_edge(), grad_out.data_ptr<S>(), call.x.data_ptr<S>(), call.sh.data_ptr<S>(),
               call.radial.data_ptr<S>(), table, grad_x, address<S>(grad_sh), grad_radial);
    });
  });
  return {sums.first, grad_sh, sums.second};
}

using Rows = c10::optional<Tensor>;

Tensor convolve(const Tensor &x, const Tensor &sh, const Tensor &weight, const Rows &rows, const Tensor &senders,
                const Tensor &receivers, string_view kernel) {
  return run_forward(Call(x, sh, weight, c10::nullopt, rows, senders, receivers, kernel));
}

Gradients convolve_backward(const Tensor &grad_out, const Tensor &x, const Tensor &sh, const Tensor &weight,
                            const Rows &rows, const Tensor &senders, const Tensor &receivers, string_view kernel,
                            bool harmonics) {
  return run_backward(Call(x, sh, weight, c10::nullopt, rows, senders, receivers, kernel), grad_out, harmonics);
}

SecondGradients convolve_double_backward(const Tensor &grad_out_, const Tensor &x, const Tensor &sh,
                                         const Tensor &weight, const Tensor &cot_x_, const Tensor &cot_sh_,
                                         const Tensor &cot_weight_, const Rows &rows, const Tensor &senders,
                                         const Tensor &receivers, string_view kernel, bool harmonics) {
  const Call call(x, sh, weight, c10::nullopt, rows, senders, receivers, kernel);
  TORCH_CHECK(cot_x_.sizes() == call.x.sizes() && cot_sh_.sizes() == call.sh.sizes() &&
                  cot_weight_.sizes() == call.radial.sizes(), "cot_x, cot_sh, cot_weight: expected the shapes of x, sh, weight");
  const Tensor grad_out = call.checked(grad_out_), cot_x = cot_x_.contiguous(), cot_sh = cot_sh_.contiguous(),
               cot_weight = cot_weight_.contiguous();
  Tensor grad_grad_out = at::zeros_like(grad_out), grad_sh = contiguous_like(call.sh, harmonics);
  std::pair<Tensor, Tensor> sums;
  with_type(call.x, [&](auto type) {
    using S = decltype(type);
    const auto function = precision<S>(call.kernel).double_backward;
    sums = call.summed<S>([&](S *grad_x, S *grad_weight, int64_t begin, int64_t end) {
      function(begin, end, call.n_atoms, call.row_pointers.data(), call.senders.data_ptr<int64_t>(),
               call.row_of_edge(), grad_out.data_ptr<S>(), call.x.data_ptr<S>(), call.sh.data_ptr<S>(),
               call.radial.data_ptr<S>(), cot_x.data_ptr<S>(), cot_sh.data_ptr<S>(), cot_weight.data_ptr<S>(),
               grad_grad_out.data_ptr<S>(), grad_x, address<S>(grad_sh), grad_weight);
    });
  });
  return {grad_grad_out, sums.first, grad_sh, sums.second};
}

Tensor convolve_spline(const Tensor &x, const Tensor &sh, const Tensor &knot, const Tensor &table,
                       const Tensor &senders, const Tensor &receivers, string_view kernel) {
  return run_forward(Call(x, sh, knot, table, c10::nullopt, senders, receivers, kernel));
}

Gradients convolve_spline_backward(const Tensor &grad_out, const Tensor &x, const Tensor &sh, const Tensor &knot,
                                   const Tensor &table, const Tensor &senders, const Tensor &receivers,
                                   string_view kernel) {
  return run_backward(Call(x, sh, knot, table, c10::nullopt, senders, receivers, kernel), grad_out, true);
}

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif

constexpr int ROWS = 5, VECTORS = VECTOR_BYTES == 64 ? 4 : 2;  // sums of one block, what the registers hold

// y[m] = sum_k left(m, k) right(k) for M rows and N vectors of columns.
template <int M, int N, class S, class Left, class Right>
inline __attribute__((always_inline)) void product(int64_t n_terms, Left left, Right right, S *const *y) {
  constexpr int W = VECTOR_BYTES / sizeof(S);
  typedef S V __attribute__((vector_size(VECTOR_BYTES)));
  V sums[M][N] = {};
  for (int64_t k = 0; k < n_terms; k++) {
    const S *row = right(k);
    V vectors[N];
    for (int v = 0; v < N; v++) std::memcpy(&vectors[v], row + v * W, sizeof(V));
    for (int m = 0; m < M; m++)
      for (int v = 0; v < N; v++) sums[m][v] += left(m, k) * vectors[v];
  }
  for (int m = 0; m < M; m++) std::memcpy(y[m], sums[m], sizeof(sums[m]));
}

// y[m] = sum_k left(m, k) right(k) for n_rows <= M rows of n_columns.
template <int M, class S, class Left, class Right>
void product_rows(int64_t n_rows, int64_t n_columns, int64_t n_terms, Left left, Right right, S *const *y) {
  if constexpr (M > 1)
    if (n_rows < M) return product_rows<M - 1>(n_rows, n_columns, n_terms, left, right, y);
  constexpr int W = VECTOR_BYTES / sizeof(S);
  int64_t n = 0;
  S *to[M];
  const auto shifted = [&](int64_t k) { return right(k) + n; };
  const auto place = [&] { for (int m = 0; m < M; m++) to[m] = y[m] + n; };
  for (; n + VECTORS * W <= n_columns; n += VECTORS * W) place(), product<M, VECTORS, S>(n_terms, left, shifted, to);
  for (; n + W <= n_columns; n += W) place(), product<M, 1, S>(n_terms, left, shifted, to);
  for (; n < n_columns; n++)
    for (int m = 0; m < M; m++) {
      S sum = 0;
      for (int64_t k = 0; k < n_terms; k++) sum += left(m, k) * right(k)[n];
      y[m][n] = sum;
    }
}

// One irrep of a linear map: rows of n_in numbers at `in` of an atom become rows of n_out numbers at `out`.
struct Block {
  int64_t dim, n_in, n_out, in, out, weight;  // weight: first column of its matrix

  static std::vector<Block> read(at::IntArrayRef numbers) {
    TORCH_CHECK(numbers.size() % 5 == 0, "blocks: expected (2l+1, n_in, n_out, in, out) of each");
    std::vector<Block> blocks;
    int64_t weight = 0;
    for (size_t k = 0; k < numbers.size(); k += 5) {
      blocks.push_back({numbers[k], numbers[k + 1], numbers[k + 2], numbers[k + 3], numbers[k + 4], weight});
      weight += numbers[k + 1] * numbers[k + 2];
    }
    return blocks;
  }
  static int64_t size(at::IntArrayRef numbers) {
    int64_t sum = 0;
    for (const Block &block : read(numbers)) sum += block.n_in * block.n_out;
    return sum;
  }
};

// Features of atoms: [n_atoms, width], or one irrep behind the other, [n_atoms * width].
template <class S>
struct Features {
  S *data;
  int64_t n_atoms, width;
  bool joined;

  Features(const Tensor &x, int64_t n_atoms, int64_t width)
      : data(x.data_ptr<std::remove_const_t<S>>()), n_atoms(n_atoms), width(width), joined(x.dim() == 2) {}
  S *row(int64_t atom, int64_t offset, int64_t dim, int64_t n_channels, int64_t m) const {
    const int64_t first = joined ? atom * width + offset : n_atoms * offset + atom * dim * n_channels;
    return data + first + m * n_channels;
  }
};

// Atoms of each matrix, checked: without species all of them belong to the only one.
std::vector<std::vector<int64_t>> atoms_of(const c10::optional<Tensor> &species, int64_t n_atoms, int64_t n_matrices) {
  TORCH_CHECK(species || n_matrices == 1, "species: expected, as there are ", n_matrices, " matrices");
  TORCH_CHECK(!species || species->scalar_type() == at::kLong && species->dim() == 1 && species->size(0) == n_atoms,
              "species: expected int64 [", n_atoms, "]");
  const Tensor contiguous = species ? species->contiguous() : Tensor();
  std::vector<std::vector<int64_t>> atoms(n_matrices);
  for (int64_t i = 0; i < n_atoms; i++) {
    const int64_t s = species ? contiguous.data_ptr<int64_t>()[i] : 0;
    TORCH_CHECK(s >= 0 && s < n_matrices, "species: expected indices below ", n_matrices);
    atoms[s].push_back(i);
  }
  return atoms;
}

void check_features(const char *name, const Tensor &x, int64_t n_atoms, int64_t width) {
  TORCH_CHECK(x.dim() == 2 ? x.size(0) == n_atoms && x.size(1) == width : x.dim() == 1 && x.size(0) == n_atoms * width,
              name, ": expected [", n_atoms, ", ", width, "] or [", n_atoms * width, "], got ", x.sizes());
}

Tensor linear(const Tensor &x_, const Tensor &weight_, const c10::optional<Tensor> &species, at::IntArrayRef numbers, int64_t width_in,
              int64_t width_out, bool joined) {
  const Tensor x = x_.contiguous(), weight = weight_.contiguous();
  const int64_t n_atoms = x.dim() == 2 ? x.size(0) : x.numel() / width_in, n_weights = Block::size(numbers);
  check_features("x", x, n_atoms, width_in);
  TORCH_CHECK(weight.dim() == 2 && weight.size(1) == n_weights && weight.scalar_type() == x.scalar_type(),
              "weight: expected [n_species, ", n_weights, "] of the dtype of x, got ", weight.sizes());
  const auto atoms = atoms_of(species, n_atoms, weight.size(0));
  const auto blocks = Block::read(numbers);
  int64_t covered = 0;
  for (const Block &block : blocks) covered += block.dim * block.n_out;
  const auto shape = joined ? std::vector<int64_t>{n_atoms, width_out} : std::vector<int64_t>{n_atoms * width_out};
  const Tensor y = covered == width_out ? at::empty(shape, x.options()) : at::zeros(shape, x.options());
  with_type(x, [&](auto type) {
    using S = decltype(type);
    const Features<const S> from(x, n_atoms, width_in);
    const Features<S> to(y, n_atoms, width_out);
    for (const Block &block : blocks)
      for (size_t s = 0; s < atoms.size(); s++) {
        const S *matrix = weight.data_ptr<S>() + s * n_weights + block.weight;
        const int64_t n_rows = atoms[s].size() * block.dim, n_groups = (n_rows + ROWS - 1) / ROWS;
        const int64_t grain = (1 << 20) / std::max<int64_t>(1, block.n_in * block.n_out * ROWS) + 1;
        at::parallel_for(0, n_groups, grain, [&](int64_t first, int64_t last) {
          for (int64_t r = first * ROWS; r < std::min(n_rows, last * ROWS); r += ROWS) {
            const S *rows[ROWS];
            S *results[ROWS];
            const int64_t n = std::min<int64_t>(ROWS, n_rows - r);
            for (int64_t k = 0; k < n; k++) {
              const int64_t atom = atoms[s][(r + k) / block.dim], m = (r + k) % block.dim;
              rows[k] = from.row(atom, block.in, block.dim, block.n_in, m);
              results[k] = to.row(atom, block.out, block.dim, block.n_out, m);
            }
            product_rows<ROWS>(n, block.n_out, block.n_in, [&](int m, int64_t k) { return rows[m][k]; },
                               [&](int64_t k) { return matrix + k * block.n_out; }, results);
          }
        });
      }
  });
  return y;
}

// Gradient of <grad, linear(x, weight, ...)> by weight.
Tensor linear_weight(const Tensor &x_, const Tensor &grad_, const c10::optional<Tensor> &species, at::IntArrayRef numbers,
                     int64_t width_in, int64_t width_out, int64_t n_matrices) {
  const Tensor x = x_.contiguous(), grad = grad_.contiguous();
  const int64_t n_atoms = x.dim() == 2 ? x.size(0) : x.numel() / width_in, n_weights = Block::size(numbers);
  check_features("x", x, n_atoms, width_in);
  check_features("grad", grad, n_atoms, width_out);
  TORCH_CHECK(x.scalar_type() == grad.scalar_type(), "x, grad: expected one dtype");
  const auto atoms = atoms_of(species, n_atoms, n_matrices);
  const auto blocks = Block::read(numbers);
  const Tensor weight = at::empty({n_matrices, n_weights}, x.options());
  with_type(x, [&](auto type) {
    using S = decltype(type);
    const Features<const S> left(x, n_atoms, width_in), right(grad, n_atoms, width_out);
    for (const Block &block : blocks)
      for (int64_t s = 0; s < n_matrices; s++) {
        std::vector<const S *> rows, gradients;
        for (const int64_t atom : atoms[s])
          for (int64_t m = 0; m < block.dim; m++) {
            rows.push_back(left.row(atom, block.in, block.dim, block.n_in, m));
            gradients.push_back(right.row(atom, block.out, block.dim, block.n_out, m));
          }
        S *matrix = weight.data_ptr<S>() + s * n_weights + block.weight;
        const int64_t n_rows = rows.size(), n_groups = (block.n_in + ROWS - 1) / ROWS;
        const int64_t grain = (1 << 20) / std::max<int64_t>(1, n_rows * block.n_out * ROWS) + 1;
        at::parallel_for(0, n_groups, grain, [&](int64_t first, int64_t last) {
          for (int64_t i = first * ROWS; i < std::min(block.n_in, last * ROWS); i += ROWS) {
            S *results[ROWS];
            const int64_t n = std::min<int64_t>(ROWS, block.n_in - i);
            for (int64_t k = 0; k < n; k++) results[k] = matrix + (i + k) * block.n_out;
            product_rows<ROWS>(n, block.n_out, n_rows, [&](int m, int64_t k) { return rows[k][i + m]; },
                               [&](int64_t k) { return gradients[k]; }, results);
          }
        });
      }
  });
  return weight;
}

// Shapes for tracing.
Tensor linear_shape(const Tensor &x, const Tensor &, const c10::optional<Tensor> &, at::IntArrayRef, int64_t width_in,
                    int64_t width_out, bool joined) {
  const c10::SymInt n_atoms = x.dim() == 2 ? x.sym_size(0) : x.sym_numel() / width_in;
  return joined ? at::empty_symint({n_atoms, width_out}, x.options()) : at::empty_symint({n_atoms * width_out}, x.options());
}
Tensor linear_weight_shape(const Tensor &x, const Tensor &, const c10::optional<Tensor> &, at::IntArrayRef numbers, int64_t, int64_t,
                           int64_t n_matrices) {
  return at::empty({n_matrices, Block::size(numbers)}, x.options());
}
Tensor convolve_shape(const Tensor &x, const Tensor &, const Tensor &, const Rows &, const Tensor &, const Tensor &,
                      string_view kernel) {
  return at::empty_symint({x.sym_size(0) * find(kernel).width_out}, x.options());
}
Gradients convolve_backward_shape(const Tensor &, const Tensor &x, const Tensor &sh, const Tensor &weight,
                                  const Rows &, const Tensor &, const Tensor &, string_view, bool harmonics) {
  return {contiguous_like(x), contiguous_like(sh, harmonics), contiguous_like(weight)};
}
SecondGradients convolve_double_backward_shape(const Tensor &grad_out, const Tensor &x, const Tensor &sh,
                                               const Tensor &weight, const Tensor &, const Tensor &, const Tensor &,
                                               const Rows &, const Tensor &, const Tensor &, string_view,
                                               bool harmonics) {
  return {contiguous_like(grad_out), contiguous_like(x), contiguous_like(sh, harmonics), contiguous_like(weight)};
}
Tensor convolve_spline_shape(const Tensor &x, const Tensor &, const Tensor &, const Tensor &, const Tensor &,
                             const Tensor &, string_view kernel) {
  return at::empty_symint({x.sym_size(0) * find(kernel).width_out}, x.options());
}
Gradients convolve_spline_backward_shape(const Tensor &, const Tensor &x, const Tensor &sh, const Tensor &knot,
                                         const Tensor &, const Tensor &, const Tensor &, string_view) {
  return {contiguous_like(x), contiguous_like(sh), contiguous_like(knot)};
}

template <class F>
auto op(const char *name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<F>();
}

Tensor or_zero(const Tensor &gradient, const Tensor &like) {
  return gradient.defined() && gradient.numel() == like.numel() ? gradient : at::zeros_like(like);
}

c10::optional<Tensor> if_defined(const Tensor &x) { return x.defined() ? c10::make_optional(x) : c10::nullopt; }

struct BackwardFunction : torch::autograd::Function<BackwardFunction> {
  static variable_list forward(AutogradContext *context, Tensor grad_out, Tensor x, Tensor sh, Tensor weight,
                               Rows rows, Tensor senders, Tensor receivers, std::string kernel, bool harmonics) {
    at::AutoDispatchBelowADInplaceOrView guard;
    context->save_for_backward({grad_out, x, sh, weight, senders, receivers, rows.value_or(Tensor())});
    context->saved_data["kernel"] = kernel;
    static const auto call = op<decltype(convolve_backward)>("eqff::convolve_backward");
    auto [grad_x, grad_sh, grad_weight] = call.call(grad_out, x, sh, weight, rows, senders, receivers, kernel, harmonics);
    return {grad_x, grad_sh, grad_weight};
  }
  static variable_list backward(AutogradContext *context, variable_list cotangents) {
    const auto saved = context->get_saved_variables();
    const std::string kernel = context->saved_data["kernel"].toStringRef();
    static const auto call = op<decltype(convolve_double_backward)>("eqff::convolve_double_backward");
    const bool harmonics = context->needs_input_grad(2);
    auto [grad_grad_out, grad_x, grad_sh, grad_weight] =
        call.call(saved[0], saved[1], saved[2], saved[3], or_zero(cotangents[0], saved[1]),
                  or_zero(cotangents[1], saved[2]), or_zero(cotangents[2], saved[3]), if_defined(saved[6]), saved[4],
                  saved[5], kernel, harmonics);
    const Tensor none;
    return {grad_grad_out, grad_x, harmonics ? grad_sh : none, grad_weight, none, none, none, none, none};
  }
};

struct ForwardFunction : torch::autograd::Function<ForwardFunction> {
  static Tensor forward(AutogradContext *context, Tensor x, Tensor sh, Tensor weight, Rows rows, Tensor senders,
                        Tensor receivers, std::string kernel) {
    at::AutoDispatchBelowADInplaceOrView guard;
    context->save_for_backward({x, sh, weight, senders, receivers, rows.value_or(Tensor())});
    context->saved_data["kernel"] = kernel;
    static const auto call = op<decltype(convolve)>("eqff::convolve");
    return call.call(x, sh, weight, rows, senders, receivers, kernel);
  }
  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    static const auto call = op<decltype(convolve_backward)>("eqff::convolve_backward");
    const bool harmonics = context->needs_input_grad(1);
    auto [grad_x, grad_sh, grad_weight] =
        call.call(gradients[0], saved[0], saved[1], saved[2], if_defined(saved[5]), saved[3], saved[4],
                  context->saved_data["kernel"].toStringRef(), harmonics);
    return {grad_x, harmonics ? grad_sh : Tensor(), grad_weight, Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

struct SplineFunction : torch::autograd::Function<SplineFunction> {
  static Tensor forward(AutogradContext *context, Tensor x, Tensor sh, Tensor knot, Tensor table, Tensor senders,
                        Tensor receivers, std::string kernel) {
    at::AutoDispatchBelowADInplaceOrView guard;
    context->save_for_backward({x, sh, knot, table, senders, receivers});
    context->saved_data["kernel"] = kernel;
    static const auto call = op<decltype(convolve_spline)>("eqff::convolve_spline");
    return call.call(x, sh, knot, table, senders, receivers, kernel);
  }
  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    static const auto call = op<decltype(convolve_spline_backward)>("eqff::convolve_spline_backward");
    auto [grad_x, grad_sh, grad_knot] = call.call(gradients[0], saved[0], saved[1], saved[2], saved[3], saved[4],
                                                  saved[5], context->saved_data["kernel"].toStringRef());
    return {grad_x, grad_sh, grad_knot, Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

// Blocks of the map back, and its matrices.
std::vector<int64_t> reversed(const std::vector<int64_t> &numbers) {
  std::vector<int64_t> result;
  for (const Block &block : Block::read(numbers))
    result.insert(result.end(), {block.dim, block.n_out, block.n_in, block.out, block.in});
  return result;
}
Tensor transposed(const Tensor &weight, const std::vector<int64_t> &numbers) {
  std::vector<Tensor> parts;
  for (const Block &block : Block::read(numbers)) {
    const Tensor part = weight.narrow(1, block.weight, block.n_in * block.n_out);
    parts.push_back(part.view({-1, block.n_in, block.n_out}).transpose(1, 2).reshape({weight.size(0), -1}));
  }
  return at::cat(parts, 1);
}

struct LinearWeightFunction : torch::autograd::Function<LinearWeightFunction> {
  static Tensor forward(AutogradContext *context, Tensor x, Tensor grad, c10::optional<Tensor> species, std::vector<int64_t> blocks,
                        int64_t width_in, int64_t width_out, int64_t n_matrices) {
    at::AutoDispatchBelowADInplaceOrView guard;
    context->save_for_backward({x, grad, species.value_or(Tensor())});
    context->saved_data["blocks"] = blocks;
    context->saved_data["widths"] = std::vector<int64_t>{width_in, width_out};
    static const auto call = op<decltype(linear_weight)>("eqff::linear_weight");
    return call.call(x, grad, species, blocks, width_in, width_out, n_matrices);
  }
  static variable_list backward(AutogradContext *context, variable_list cotangents) {
    const auto saved = context->get_saved_variables();
    const auto blocks = context->saved_data["blocks"].toIntVector(), widths = context->saved_data["widths"].toIntVector();
    const auto species = if_defined(saved[2]);
    static const auto call = op<decltype(linear)>("eqff::linear");
    const Tensor x = call.call(saved[1], transposed(cotangents[0], blocks), species, reversed(blocks), widths[1],
                               widths[0], saved[0].dim() == 2);
    const Tensor grad =
        call.call(saved[0], cotangents[0], species, blocks, widths[0], widths[1], saved[1].dim() == 2);
    return {x, grad, Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

struct LinearFunction : torch::autograd::Function<LinearFunction> {
  static Tensor forward(AutogradContext *context, Tensor x, Tensor weight, c10::optional<Tensor> species, std::vector<int64_t> blocks,
                        int64_t width_in, int64_t width_out, bool joined) {
    at::AutoDispatchBelowADInplaceOrView guard;
    context->save_for_backward({x, weight, species.value_or(Tensor())});
    context->saved_data["blocks"] = blocks;
    context->saved_data["widths"] = std::vector<int64_t>{width_in, width_out};
    static const auto call = op<decltype(linear)>("eqff::linear");
    return call.call(x, weight, species, blocks, width_in, width_out, joined);
  }
  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto blocks = context->saved_data["blocks"].toIntVector(), widths = context->saved_data["widths"].toIntVector();
    static const auto call = op<decltype(linear)>("eqff::linear");
    const auto species = if_defined(saved[2]);
    static const auto call_weight = op<decltype(linear_weight)>("eqff::linear_weight");
    Tensor grad_x, grad_weight;
    if (context->needs_input_grad(0))
      grad_x = call.call(gradients[0], transposed(saved[1], blocks), species, reversed(blocks), widths[1], widths[0],
                         saved[0].dim() == 2);
    if (context->needs_input_grad(1))
      grad_weight = call_weight.call(saved[0], gradients[0], species, blocks, widths[0], widths[1], saved[1].size(0));
    return {grad_x, grad_weight, Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

Tensor linear_autograd(const Tensor &x, const Tensor &weight, const c10::optional<Tensor> &species, at::IntArrayRef blocks,
                       int64_t width_in, int64_t width_out, bool joined) {
  return LinearFunction::apply(x, weight, species, blocks.vec(), width_in, width_out, joined);
}
Tensor linear_weight_autograd(const Tensor &x, const Tensor &grad, const c10::optional<Tensor> &species, at::IntArrayRef blocks,
                              int64_t width_in, int64_t width_out, int64_t n_matrices) {
  return LinearWeightFunction::apply(x, grad, species, blocks.vec(), width_in, width_out, n_matrices);
}
Tensor convolve_autograd(const Tensor &x, const Tensor &sh, const Tensor &weight, const Rows &rows,
                         const Tensor &senders, const Tensor &receivers, string_view kernel) {
  return ForwardFunction::apply(x, sh, weight, rows, senders, receivers, std::string(kernel));
}
Gradients convolve_backward_autograd(const Tensor &grad_out, const Tensor &x, const Tensor &sh, const Tensor &weight,
                                     const Rows &rows, const Tensor &senders, const Tensor &receivers,
                                     string_view kernel, bool harmonics) {
  auto gradients =
      BackwardFunction::apply(grad_out, x, sh, weight, rows, senders, receivers, std::string(kernel), harmonics);
  return {gradients[0], gradients[1], gradients[2]};
}
Tensor convolve_spline_autograd(const Tensor &x, const Tensor &sh, const Tensor &knot, const Tensor &table,
                                const Tensor &senders, const Tensor &receivers, string_view kernel) {
  return SplineFunction::apply(x, sh, knot, table, senders, receivers, std::string(kernel));
}

}  // namespace

TORCH_LIBRARY(eqff, library) {
  library.def("load_kernel(str name, str path) -> ()", load_kernel);
  const auto define = [&](const std::string &schema) { library.def(schema.c_str()); };
  const std::string inputs = "Tensor x, Tensor sh, Tensor weight, ", edges = "Tensor senders, Tensor receivers, str kernel";
  const std::string knots = "Tensor x, Tensor sh, Tensor knot, Tensor table, ";
  const std::string rows = "Tensor? rows, ";
  define("convolve(" + inputs + rows + edges + ") -> Tensor");
  define("convolve_backward(Tensor grad_out, " + inputs + rows + edges + ", bool harmonics) -> (Tensor, Tensor, Tensor)");
  define("convolve_double_backward(Tensor grad_out, " + inputs + "Tensor cot_x, Tensor cot_sh, Tensor cot_weight, " +
         rows + edges + ", bool harmonics) -> (Tensor, Tensor, Tensor, Tensor)");
  define("convolve_spline(" + knots + edges + ") -> Tensor");
  const std::string map = "Tensor? species, int[] blocks, int width_in, int width_out, ";
  define("linear(Tensor x, Tensor weight, " + map + "bool joined) -> Tensor");
  define("linear_weight(Tensor x, Tensor grad, " + map + "int n_matrices) -> Tensor");
  define("convolve_spline_backward(Tensor grad_out, " + knots + edges + ") -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(eqff, CPU, library) {
  library.impl("convolve", convolve);
  library.impl("convolve_backward", convolve_backward);
  library.impl("convolve_double_backward", convolve_double_backward);
  library.impl("convolve_spline", convolve_spline);
  library.impl("convolve_spline_backward", convolve_spline_backward);
  library.impl("linear", linear);
  library.impl("linear_weight", linear_weight);
}

TORCH_LIBRARY_IMPL(eqff, Meta, library) {
  library.impl("convolve", convolve_shape);
  library.impl("convolve_backward", convolve_backward_shape);
  library.impl("convolve_double_backward", convolve_double_backward_shape);
  library.impl("convolve_spline", convolve_spline_shape);
  library.impl("convolve_spline_backward", convolve_spline_backward_shape);
  library.impl("linear", linear_shape);
  library.impl("linear_weight", linear_weight_shape);
}

TORCH_LIBRARY_IMPL(eqff, Autograd, library) {
  library.impl("convolve", convolve_autograd);
  library.impl("convolve_backward", convolve_backward_autograd);
  library.impl("convolve_spline", convolve_spline_autograd);
  library.impl("linear", linear_autograd);
  library.impl("linear_weight", linear_weight_autograd);
  // derivatives beyond those: an error, not a wrong number
  library.impl("convolve_double_backward", torch::autograd::autogradNotImplementedFallback());
  library.impl("convolve_spline_backward", torch::autograd::autogradNotImplementedFallback());
}
