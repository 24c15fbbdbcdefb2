// Asks for the lines of memory that a loop will read or write some turns later, where the processor's own prefetchers do not see it.
//
// Halide 21 has a prefetch directive of its own, but it asks for boxes, whose extents are bounds, at offsets counted in bytes where
// elements are meant, and for lines that will not be used again (prefetchnta). This pass, the last of lowering, looks at the vectors
// that a turn of a loop loads or stores and asks for the lines of the same vectors `turns` later with LLVM's own prefetch.
#pragma once
#include <Halide.h>

#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace aft {

class FetchAhead : public Halide::Internal::IRMutator {
public:
    // In the loops over `var` that make `made`: the vectors that the turn `turns` later loads from `buffer`.
    void loads(const Halide::Func &made, const Halide::VarOrRVar &var, const std::string &buffer, int turns) {
        requests_.push_back({made.name() + ".", "." + var.name(), buffer, turns, false, false});
    }
    // In the loops over `var` that make `made`: the vectors of `made` that the turn `turns` later stores (0: this one).
    void stores(const Halide::Func &made, const Halide::VarOrRVar &var, int turns) {
        requests_.push_back({made.name() + ".", "." + var.name(), made.name(), turns, true, false});
    }
    // The same for what another function of these loops stores, asked for as this core's own (prefetchw, where the target has it): a stream
    // that only writes then does not wait for its lines.
    void owns(const Halide::Func &made, const Halide::VarOrRVar &var, const Halide::Func &stored, int turns) {
        requests_.push_back({made.name() + ".", "." + var.name(), stored.name(), turns, true, true});
    }

private:
    struct Request {
        std::string made, var, buffer;
        int turns;
        bool stores, owned;
        bool concerns(const std::string &loop) const {
            using namespace Halide::Internal;
            return starts_with(loop, made) && (ends_with(loop, var) || ends_with(loop, var + ".rebased"));  // rebased: a part of a partitioned loop
        }
    };
    std::vector<Request> requests_;

    struct Line {
        std::string buffer;
        Halide::Expr index;  // of its first element, as far as it is known at the start of the turn
        int bytes;           // of an element
    };

    // The lines of a turn that a request asks for.
    class Lines : public Halide::Internal::IRVisitor {
    public:
        Lines(const Request &request, const Halide::Internal::Stmt &body) : request_(request) { body.accept(this); }
        std::vector<Line> all;

    private:
        using IRVisitor::visit;
        const Request &request_;
        std::map<std::string, Halide::Expr> known_;
        Halide::Internal::Scope<> inner_;  // loops inside: what depends on them is not known at the start of the turn

        void visit(const Halide::Internal::For *loop) override {
            inner_.push(loop->name);
            IRVisitor::visit(loop);
        }
        void visit(const Halide::Internal::Let *let) override { bind(let); }
        void visit(const Halide::Internal::LetStmt *let) override { bind(let); }
        template <class Let>
        void bind(const Let *let) {
            let->value.accept(this);
            known_[let->name] = Halide::Internal::substitute(known_, let->value);
            let->body.accept(this);
        }
        void visit(const Halide::Internal::Load *load) override {
            if (!request_.stores) add(load->name, load->index, load->type.bytes());
            IRVisitor::visit(load);
        }
        void visit(const Halide::Internal::Store *store) override {
            if (request_.stores) add(store->name, store->index, store->value.type().bytes());
            IRVisitor::visit(store);
        }
        void add(const std::string &name, const Halide::Expr &index, int bytes) {
            const bool of_buffer = name == request_.buffer || Halide::Internal::starts_with(name, request_.buffer + ".");  // a part of a tuple
            const auto *ramp = index.as<Halide::Internal::Ramp>();
            if (!of_buffer || !ramp || !is_const_one(ramp->stride)) return;
            const Halide::Expr first = substitute(known_, ramp->base);
            if (expr_uses_vars(first, inner_)) return;
            for (int element = 0; element < ramp->lanes; element += 64 / bytes) all.push_back({name, simplify(first + element), bytes});
        }
    };

    using IRMutator::visit;
    Halide::Internal::Stmt visit(const Halide::Internal::For *loop) override {
        using namespace Halide;
        using namespace Halide::Internal;
        Stmt body = mutate(loop->body);
        for (const Request &request : requests_) {
            if (!request.concerns(loop->name)) continue;
            const Lines lines(request, loop->body);
            const Expr turn = Variable::make(Int(32), loop->name) + request.turns;
            std::set<std::string> asked;
            for (const Line &line : lines.all) {
                const Expr index = simplify(substitute(loop->name, turn, line.index));
                std::ostringstream text;
                text << line.buffer << index;
                if (asked.insert(text.str()).second) body = Block::make(fetch(line.buffer, index, line.bytes, request.owned), body);
            }
        }
        if (body.same_as(loop->body)) return loop;
        return For::make(loop->name, loop->min, loop->extent, loop->for_type, loop->partition_policy, loop->device_api, body);
    }

    static Halide::Internal::Stmt fetch(const std::string &buffer, const Halide::Expr &index, int bytes, bool to_write) {
        using namespace Halide;
        using namespace Halide::Internal;
        const Add *sum = index.as<Add>();  // a constant part stays apart: it becomes the displacement of an address
        const bool constant = sum && is_const(sum->b);
        const Expr element = cast<int64_t>(constant ? sum->a : index) + cast<int64_t>(constant ? sum->b : Expr(0));
        const Expr address = reinterpret<uint64_t>(Variable::make(Handle(), buffer)) + cast<uint64_t>(element * bytes);
        constexpr int every_level = 3, data = 1;
        return Evaluate::make(Call::make(Int(32), "llvm.prefetch.p0", {reinterpret(Handle(), address), int(to_write), every_level, data}, Call::Extern));
    }
};

}  // namespace aft
