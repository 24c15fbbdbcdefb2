// Writes that are all or nothing.
#include "runtime/files.h"

#include "test_files.h"

namespace aft {
namespace {

using test::TemporaryFolder;
namespace fs = std::filesystem;

int entries(const std::string &folder) { return int(std::distance(fs::directory_iterator(folder), {})); }

TEST(Files, WithoutCommitNothingChanges) {
    const TemporaryFolder folder;
    write_file_atomic(folder / "x", "old");
    {
        AtomicFile file(folder / "x");
        file.write("new");
    }
    EXPECT_EQ(test::slurp(folder / "x"), "old");
    EXPECT_EQ(entries(folder.path()), 1);
    write_file_atomic(folder / "x", "new");
    EXPECT_EQ(read_file(folder / "x", 3), "new");
    EXPECT_ERROR(read_file(folder / "x", 2), "at most 2");
}

TEST(Files, LinksAreFollowed) {
    const TemporaryFolder folder;
    write_file_atomic(folder / "target", "old");
    fs::create_symlink("target", folder / "link");
    write_file_atomic(folder / "link", "new");
    EXPECT_TRUE(fs::is_symlink(folder / "link"));
    EXPECT_EQ(test::slurp(folder / "target"), "new");
}

TEST(Files, DevicesAreWrittenInPlace) {
    write_file_atomic("/dev/null", "x");
    EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST(Files, FoldersAppearWhole) {
    const TemporaryFolder folder;
    {
        AtomicFolder step(folder / "step-1");
        write_file_atomic(step.path() + "/a", "1");
    }
    EXPECT_EQ(entries(folder.path()), 0);
    for (const char *text : {"1", "2"}) {
        AtomicFolder step(folder / "step-1");
        write_file_atomic(step.path() + "/a", text);
        step.publish();
        EXPECT_EQ(test::slurp(folder / "step-1/a"), text);
        EXPECT_EQ(entries(folder.path()), 1);
    }
}

TEST(Files, TemporariesOfAKilledProgramGo) {
    const TemporaryFolder folder;
    fs::create_directories(folder / (std::string("step-3") + temporary_mark + "99-0"));
    test::spill(folder / (std::string("latest") + temporary_mark + "99-1"), "x");
    test::spill(folder / "latest", "x");
    remove_temporaries(folder.path());
    EXPECT_EQ(entries(folder.path()), 1);
}

TEST(Files, ErrorsNameThePathAndTheReason) {
    const TemporaryFolder folder;
    test::spill(folder / "file", "x");
    EXPECT_ERROR(make_folders(folder / "file"), "file");
    EXPECT_ERROR(check_writable(folder / "file/below"), "below");
    EXPECT_ERROR(write_file_atomic(folder / "file/below", "x"), "Not a directory");
    EXPECT_ERROR(InputFile("/nonexistent/x"), "/nonexistent/x");
    check_writable(folder / "a/b/c");
    EXPECT_EQ(entries(folder / "a/b/c"), 0);
}

}  // namespace
}  // namespace aft
