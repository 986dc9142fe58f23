package awsapi

import (
	"context"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// Tags lists the tags of a resource of AWS IoT.
func (t *Target) Tags(ctx context.Context, arn string) (map[string]string, error) {
	tags := make(map[string]string)
	pages := iot.NewListTagsForResourcePaginator(t.iot, &iot.ListTagsForResourceInput{ResourceArn: &arn})
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx)
		if err != nil {
			return nil, classified("ListTagsForResource", err)
		}
		for _, tag := range out.Tags {
			tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
		}
	}
	return tags, nil
}

// Tag adds tags to a resource, or changes their values.
func (t *Target) Tag(ctx context.Context, arn string, tags map[string]string) error {
	_, err := t.iot.TagResource(ctx, &iot.TagResourceInput{ResourceArn: &arn, Tags: iotTags(tags)}, iotWrite)
	return classified("TagResource", err)
}

func iotTags(tags map[string]string) []types.Tag {
	var out []types.Tag
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return out
}
