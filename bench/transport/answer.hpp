// SPDX-License-Identifier: MIT
// The other way round: 64 bytes ask for a large answer, which is written where it is read; or (COPIED)
// is sent and received from and into the programs' own memory.
#pragma once

#include "transport/call.hpp"
#include "transport/lent.hpp"

namespace bench {

template <bool COPIED> class VeridianAnswer : public LentTransport<VeridianAnswer<COPIED>> {
  public:
    explicit VeridianAnswer(size_t size)
        : LentTransport<VeridianAnswer<COPIED>>(size), service_(1, size),
          buffer_(COPIED ? size : LENT_ANSWER), answer_size_(size)
    {
        service_.invite();
        request_.data = asked_;
        request_.size = sizeof asked_;
    }
    std::string name() const override
    {
        return COPIED ? "answer copied" : "answer";
    }
    void enter_parent() override
    {
        service_.enter_clients();
    }
    void enter_child() override
    {
        service_.enter_server();
    }
    // The client's call is made when its answer is wanted.
    void put(Direction direction, size_t, uint64_t number)
    {
        struct vrd_loan loan;
        if (direction == TO_CHILD) {
            stamp(asked_, sizeof asked_, number);
            return;
        }
        if (COPIED) {
            stamp(buffer_.data(), answer_size_, number);
            checked("vrd_reply", vrd_reply(reply_, buffer_.data(), answer_size_));
            return;
        }
        checked("vrd_reply_loan", vrd_reply_loan(reply_, answer_size_, &loan));
        stamp(loan.data, answer_size_, number);
        checked("vrd_loan_send", vrd_loan_send(&loan, 0));
    }
    bool take(Direction direction, size_t, uint64_t number)
    {
        const vrd_cap_t client = service_.client();
        struct vrd_view view;
        if (direction == TO_CHILD) {
            checked("vrd_receive_call",
                    vrd_receive_call(service_.service(), &request_, &reply_, VRD_FOREVER));
            return stamped(asked_, sizeof asked_, number);
        }
        if (COPIED) {
            checked("vrd_call", vrd_call(client, asked_, sizeof asked_, buffer_.data(),
                                         answer_size_, VRD_FOREVER));
            return stamped(buffer_.data(), answer_size_, number);
        }
        checked("vrd_call_view", vrd_call_view(client, asked_, sizeof asked_, &view, VRD_FOREVER));
        const bool right = view.len == answer_size_ && stamped(view.data, answer_size_, number);
        checked("vrd_view_release", vrd_view_release(&view));
        return right;
    }

  private:
    Service service_;
    std::vector<unsigned char> buffer_;
    unsigned char asked_[LENT_ANSWER] = {};
    vrd_message request_ = {};
    vrd_cap_t reply_ = VRD_CAP_NONE;
    size_t answer_size_;
};

} // namespace bench
