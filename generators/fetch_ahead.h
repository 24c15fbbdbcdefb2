// Asks for the lines of memory that a loop will read or write some turns later, where the processor's own prefetchers do not see it.
//
// Halide 21 has a prefetch directive of its own, but it asks for boxes, whose extents are bounds, at offsets counted in bytes where
// elements are meant, and for lines that will not be used again (prefetchnta). This pass, the last of lowering, looks at the vectors
// that a turn of a loop loads or stores and asks for the lines of the same vectors `turns` later with LLVM's own prefetch.
#pragma once
#include <Halide.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace aft {

class FetchAhead : public Halide::Internal::IRMutator {
public:
    // In the loops over `var` that make `made`: the vectors that the turn `turns` later loads from `buffer`.
    void loads(const Halide::Func &made, const Halide::VarOrRVar &var, const std::string &buffer, int turns) { loads(made, var, buffer, turns, var); }
    // The same for a turn of the loop over `of` around them, for example the row after a row.
    void loads(const Halide::Func &made, const Halide::VarOrRVar &var, const std::string &buffer, int turns, const Halide::VarOrRVar &of) { loads(made, var, buffer, turns, made, of); }
    // The same for a turn of the loop over `of` of another function, in whose loops `made` is made.
    void loads(const Halide::Func &made, const Halide::VarOrRVar &var, const std::string &buffer, int turns, const Halide::Func &outer, const Halide::VarOrRVar &of) {
        requests_.push_back({.made = made.name(), .var = var.name(), .of = of.name(), .buffer = buffer, .turns = turns, .outer = outer.name()});
    }
    // In the loops over `var` that make `made`: the vectors of `made` that the turn `turns` later stores (0: this one).
    void stores(const Halide::Func &made, const Halide::VarOrRVar &var, int turns) {
        requests_.push_back({.made = made.name(), .var = var.name(), .of = var.name(), .buffer = made.name(), .turns = turns, .stores = true});
    }
    // The same for its value `part`, if there are several, and for a turn of the loop over `of` around them.
    void stores(const Halide::Func &made, int part, const Halide::VarOrRVar &var, int turns, const Halide::VarOrRVar &of) {
        requests_.push_back({.made = made.name(), .var = var.name(), .of = of.name(), .buffer = value_of(made, part), .turns = turns, .stores = true});
    }
    // The same for what another function of these loops stores, asked for as this core's own (prefetchw, where the target has it): a stream
    // that only writes then does not wait for its lines.
    void owns(const Halide::Func &made, const Halide::VarOrRVar &var, const Halide::Func &stored, int turns) {
        requests_.push_back({.made = made.name(), .var = var.name(), .of = var.name(), .buffer = stored.name(), .turns = turns, .stores = true, .owned = true});
    }
    // The same of inputs and outputs, of what lies `rows` rows (of dimension 1) further on than what this turn loads or stores: where a
    // loop along rows runs inside one over blocks of rows. That is a while ahead, so they are wanted in L2 only.
    void loads_rows_on(const Halide::Func &made, const Halide::VarOrRVar &var, const std::string &buffer, int rows) {
        requests_.push_back({.made = made.name(), .var = var.name(), .of = var.name(), .buffer = buffer, .rows = rows});
    }
    void stores_rows_on(const Halide::Func &made, const Halide::VarOrRVar &var, int rows) { stores_rows_on(made, made.name(), var, rows); }
    void stores_rows_on(const Halide::Func &made, int part, const Halide::VarOrRVar &var, int rows) { stores_rows_on(made, value_of(made, part), var, rows); }
    // The loops over `var` that make `made` read the same lines of `buffer`, side by side, in each turn of the loop over `pass` of `outer`:
    // those that the next turn of the loop over `of` (of `outer` too) will read, `lines` of them a turn, on and on through the passes. So
    // memory is read at an even pace during all of them, and not in the first one only.
    void next_stream(const Halide::Func &made, const Halide::VarOrRVar &var, const std::string &buffer, int lines, const Halide::Func &outer, const Halide::VarOrRVar &pass, const Halide::VarOrRVar &of) {
        requests_.push_back({.made = made.name(), .var = var.name(), .of = of.name(), .buffer = buffer, .outer = outer.name(), .pass = pass.name(), .lines = lines});
    }

private:
    static std::string value_of(const Halide::Func &made, int part) { return made.outputs() == 1 ? made.name() : made.name() + "." + std::to_string(part); }
    void stores_rows_on(const Halide::Func &made, const std::string &buffer, const Halide::VarOrRVar &var, int rows) {
        requests_.push_back({.made = made.name(), .var = var.name(), .of = var.name(), .buffer = buffer, .rows = rows, .stores = true});
    }

    struct Request {
        std::string made, var, of, buffer;
        int turns = 0, rows = 0;
        bool stores = false, owned = false;
        std::string outer = {}, pass = {};
        int lines = 0;
        bool concerns(const std::string &loop) const { return names(loop, var); }
        bool counts(const std::string &loop) const { return outer.empty() ? names(loop, of) : names(loop, of, outer); }
        bool passes(const std::string &loop) const { return names(loop, pass, outer); }
        bool names(const std::string &loop, const std::string &one) const { return names(loop, one, made); }
        static bool names(const std::string &loop, const std::string &one, const std::string &func) {
            using namespace Halide::Internal;
            return starts_with(loop, func + ".") && (ends_with(loop, "." + one) || ends_with(loop, "." + one + ".rebased"));  // rebased: a part of a partitioned loop
        }
    };
    std::vector<Request> requests_;
    struct Around {
        std::string name;
        Halide::Expr value;  // of a let; a loop has none
    };
    std::vector<Around> around_;  // loops and lets around a statement, the outermost first

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
    Halide::Internal::Stmt visit(const Halide::Internal::LetStmt *let) override {
        around_.push_back({let->name, let->value});
        Halide::Internal::Stmt body = mutate(let->body);
        around_.pop_back();
        return body.same_as(let->body) ? let : Halide::Internal::LetStmt::make(let->name, let->value, body);
    }
    Halide::Internal::Stmt visit(const Halide::Internal::For *loop) override {
        using namespace Halide;
        using namespace Halide::Internal;
        around_.push_back({loop->name, Expr()});
        Stmt body = mutate(loop->body);
        std::map<std::string, Expr> steps;  // in bytes: what the rows further on have in common, made once
        for (const Request &request : requests_) {
            if (!request.concerns(loop->name)) continue;
            const auto counted = std::find_if(around_.rbegin(), around_.rend(), [&](const Around &one) { return !one.value.defined() && request.counts(one.name); });
            if (counted == around_.rend()) continue;
            const Lines lines(request, loop->body);
            if (request.lines) {
                body = Block::make(next_lines(request, lines, *counted, loop), body);
                continue;
            }
            const Expr turn = Variable::make(Int(32), counted->name) + request.turns;
            std::set<std::string> asked;
            for (const Line &line : lines.all) {
                Expr index = line.index;
                for (auto one = around_.rbegin(); one != counted; one++)
                    if (one->value.defined()) index = substitute(one->name, one->value, index);
                index = simplify(substitute(counted->name, turn, index));
                std::ostringstream text;
                text << line.buffer << index;
                if (!asked.insert(text.str()).second) continue;
                Expr step;
                if (request.rows) {
                    const std::string name = loop->name + "." + std::to_string(request.rows) + "_rows." + line.buffer;
                    steps[name] = cast<uint64_t>(cast<int64_t>(row_stride(line.buffer)) * (request.rows * line.bytes));
                    step = Variable::make(UInt(64), name);
                }
                body = Block::make(fetch(address_of(line, index, step), step.defined() ? second_level : every_level, request.owned), body);
            }
        }
        around_.pop_back();
        if (body.same_as(loop->body)) return loop;
        Stmt made = For::make(loop->name, loop->min, loop->extent, loop->for_type, loop->partition_policy, loop->device_api, body);
        for (const auto &[name, step] : steps) made = LetStmt::make(name, step, made);
        return made;
    }

    Halide::Internal::Stmt next_lines(const Request &request, const Lines &lines, const Around &of, const Halide::Internal::For *loop) {
        using namespace Halide;
        using namespace Halide::Internal;
        const auto pass = std::find_if(around_.rbegin(), around_.rend(), [&](const Around &one) { return !one.value.defined() && request.passes(one.name); });
        if (lines.all.empty() || pass == around_.rend()) return Evaluate::make(0);
        const Line &first = lines.all.front();
        Expr start = first.index;
        for (auto one = around_.rbegin(); one->name != of.name; one++)
            if (one->value.defined()) start = substitute(one->name, one->value, start);
        start = substitute(of.name, Variable::make(Int(32), of.name) + 1, substitute(loop->name, loop->min, start));
        std::set<std::string> of_a_turn;
        for (const Line &line : lines.all) {
            std::ostringstream text;
            text << line.index;
            of_a_turn.insert(text.str());
        }
        const int passes = (int(of_a_turn.size()) + request.lines - 1) / request.lines;  // that it takes; more ask for the last pass's lines again
        const Expr turn = min(Variable::make(Int(32), pass->name), passes - 1) * loop->extent + (Variable::make(Int(32), loop->name) - loop->min);
        std::vector<Stmt> asked;
        for (int line = 0; line < request.lines; line++)
            asked.push_back(fetch(address_of(first, start + (turn * request.lines + line) * (64 / first.bytes), Expr()), second_level, false));
        return Block::make(asked);
    }

    static Halide::Expr row_stride(const std::string &buffer) {
        using namespace Halide;
        using namespace Halide::Internal;
        return Call::make(Int(32), Call::buffer_get_stride, {Variable::make(type_of<halide_buffer_t *>(), buffer + ".buffer"), 1}, Call::Extern);
    }

    static Halide::Expr address_of(const Line &line, const Halide::Expr &index, const Halide::Expr &step) {
        using namespace Halide;
        using namespace Halide::Internal;
        const Add *sum = index.as<Add>();  // a constant part stays apart: it becomes the displacement of an address
        const bool constant = sum && is_const(sum->b);
        const Expr element = cast<int64_t>(constant ? sum->a : index) + cast<int64_t>(constant ? sum->b : Expr(0));
        Expr address = reinterpret<uint64_t>(Variable::make(Handle(), line.buffer));
        if (step.defined()) address = address + step;
        return address + cast<uint64_t>(element * line.bytes);
    }

    static constexpr int every_level = 3, second_level = 2;  // LLVM's localities
    static Halide::Internal::Stmt fetch(const Halide::Expr &address, int level, bool to_write) {
        using namespace Halide;
        using namespace Halide::Internal;
        constexpr int data = 1;
        return Evaluate::make(Call::make(Int(32), "llvm.prefetch.p0", {reinterpret(Handle(), address), int(to_write), level, data}, Call::Extern));
    }
};

}  // namespace aft
