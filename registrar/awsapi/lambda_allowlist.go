package awsapi

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/certmill/certmill/registrar/jitr"
)

func (l *Lambda) key(certificateID string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"certificate_id": &types.AttributeValueMemberS{Value: certificateID}}
}

// Look implements jitr.AllowList. It reads consistently: a row that was written a moment ago is there.
func (l *Lambda) Look(ctx context.Context, certificateID string) (jitr.Row, error) {
	out, err := l.db.GetItem(ctx, &dynamodb.GetItemInput{TableName: &l.table, Key: l.key(certificateID), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return jitr.Row{}, classified("GetItem", err) // a missing table is no missing row: not ErrNotFound
	}
	if out.Item == nil {
		return jitr.Row{}, jitr.ErrNotFound
	}
	text := func(name string) string {
		s, _ := out.Item[name].(*types.AttributeValueMemberS)
		if s == nil {
			return ""
		}
		return s.Value
	}
	row := jitr.Row{CertificateID: certificateID, Order: text("order"), DeviceID: text("device_id"), Slot: text("slot"), Product: text("product"),
		Serial: text("serial"), CA: text("ca"), UsedBy: text("used_by")}
	if denied, ok := out.Item["denied"].(*types.AttributeValueMemberBOOL); ok {
		row.Denied = denied.Value
	}
	if end := text("not_after"); end != "" {
		if row.NotAfter, err = time.Parse(time.RFC3339, end); err != nil {
			return row, err
		}
	}
	return row, nil
}

// MarkUsed implements jitr.AllowList, by a condition (rule R-13): two functions that race end alike.
func (l *Lambda) MarkUsed(ctx context.Context, certificateID, thing string) error {
	_, err := l.db.UpdateItem(ctx, &dynamodb.UpdateItemInput{TableName: &l.table, Key: l.key(certificateID),
		UpdateExpression:          aws.String("SET used_by = :thing"),
		ConditionExpression:       aws.String("attribute_exists(certificate_id) AND (attribute_not_exists(used_by) OR used_by = :thing)"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":thing": &types.AttributeValueMemberS{Value: thing}}})
	var taken *types.ConditionalCheckFailedException
	if errors.As(err, &taken) {
		return errors.Join(jitr.ErrConflict, err)
	}
	return classified("UpdateItem", err)
}
